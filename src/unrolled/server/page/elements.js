// The elements of the page.

export const $ = (id) => document.getElementById(id);

/** A row of a table. */
export function cells(...contents) {
  const row = document.createElement("tr");
  for (const content of contents) row.insertCell().append(content);
  return row;
}
