/** The path of a small line without axes. */

/** SVG path data through the values, from left to right in a box of this size; the largest touches the top. */
export function sparkline(values: number[], width: number, height: number): string {
  const most = Math.max(...values, 0)
  const across = values.length > 1 ? width / (values.length - 1) : 0
  const y = (value: number) => (most ? height - (value / most) * height : height)
  return values.map((value, index) => `${index ? 'L' : 'M'}${(index * across).toFixed(1)} ${y(value).toFixed(1)}`).join('')
}
