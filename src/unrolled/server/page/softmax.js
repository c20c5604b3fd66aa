// Logits as probabilities.

export function softmax(logits, temperature = 1) {
  const most = Math.max(...logits);
  const weights = logits.map((logit) => Math.exp((logit - most) / temperature));
  const sum = weights.reduce((total, weight) => total + weight, 0);
  return weights.map((weight) => weight / sum);
}

/** A symbol by chance; at a temperature of 0 the likeliest. */
export function chosen(logits, temperature) {
  if (temperature === 0) return logits.indexOf(Math.max(...logits));
  let left = Math.random();
  const likely = softmax(logits, temperature);
  return Math.max(0, likely.findIndex((probability) => (left -= probability) < 0));
}

/** How surprising these symbols were, in nats, by the logits before each; null where there are none. */
export function surprise(symbols, rows) {
  if (!symbols.length || !rows[0]) return null;
  return symbols.reduce((sum, symbol, place) => sum - Math.log(softmax(rows[place])[symbol]), 0);
}
