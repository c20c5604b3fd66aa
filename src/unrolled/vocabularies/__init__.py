"""Vocabularies by what a symbol is; `unrolled.vocabulary` makes one of a level, or of a document."""
