// The elements of the page.

export const $ = (id) => document.getElementById(id);

/** The row of a table that says what its columns are. */
export function heading(...titles) {
  const row = document.createElement("tr");
  for (const title of titles) row.append(Object.assign(document.createElement("th"), { textContent: title }));
  return row;
}

/** A row of a table. */
export function cells(...contents) {
  const row = document.createElement("tr");
  for (const content of contents) row.insertCell().append(content);
  return row;
}
