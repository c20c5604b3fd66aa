// How many there are of a thing, in words.

export const counted = (count, one) => `${count.toLocaleString()} ${one}${count === 1 ? "" : "s"}`;
