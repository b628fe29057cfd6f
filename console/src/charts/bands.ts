/** Stretches of time as pieces of one band for each target. */
export interface Stretch {
  target: string
  gateway: string
  state: 'open' | 'half_open'
  began_at: string
  ended_at: string | null
}

export interface Piece<S> {
  /** Percent of the whole time at which it begins, and that it lasts; what is short is still seen. */
  left: number
  width: number
  stretch: S
}

export interface Band<S> {
  target: string
  pieces: Piece<S>[]
}

const LEAST = 0.4

/** A band for each target, by name; `open` pieces come last, so that they are drawn over what another gateway says. */
export function bandsOf<S extends Stretch>(stretches: readonly S[], since: Date, until: Date): Band<S>[] {
  const [first, last] = [since.getTime(), until.getTime()]
  const bands = new Map<string, Piece<S>[]>()
  for (const stretch of stretches) {
    const from = Math.max(first, Date.parse(stretch.began_at))
    const to = Math.min(last, stretch.ended_at ? Date.parse(stretch.ended_at) : last)
    if (to < from) continue
    const width = Math.max(LEAST, ((to - from) / (last - first)) * 100)
    const piece = { left: Math.min(((from - first) / (last - first)) * 100, 100 - width), width, stretch }
    bands.set(stretch.target, [...(bands.get(stretch.target) ?? []), piece])
  }
  const rank = ({ stretch }: Piece<S>) => Number(stretch.state === 'open')
  return [...bands].sort(([a], [b]) => (a < b ? -1 : 1)).map(([target, pieces]) => ({ target, pieces: pieces.sort((a, b) => rank(a) - rank(b)) }))
}
