import { describe, expect, it } from 'vitest'

import { type Stretch, bandsOf } from './bands'

const since = new Date('2026-11-24T00:00:00Z')
const until = new Date('2026-11-24T10:00:00Z')
const at = (hour: number, minute = 0) => new Date(since.getTime() + (hour * 60 + minute) * 60_000).toISOString()
const stretch = (target: string, state: Stretch['state'], began: string, ended: string | null): Stretch => ({ target, gateway: 'g/w0', state, began_at: began, ended_at: ended })

describe('bandsOf', () => {
  it('places each stretch in the time that is shown, and cuts what is outside', () => {
    const [band] = bandsOf([stretch('e/m', 'open', at(1), at(2)), stretch('e/m', 'open', at(-3), at(1)), stretch('e/m', 'open', at(8), null)], since, until)
    expect(band!.pieces.map(({ left, width }) => [left, width])).toEqual([
      [10, 10],
      [0, 10],
      [80, 20],
    ])
  })

  it('has a band for each target, by name, with what is open over what is half open', () => {
    const bands = bandsOf([stretch('e/z', 'open', at(1), at(2)), stretch('e/a', 'open', at(1), at(2)), stretch('e/a', 'half_open', at(1), at(3))], since, until)
    expect(bands.map(({ target, pieces }) => [target, ...pieces.map((piece) => piece.stretch.state)])).toEqual([
      ['e/a', 'half_open', 'open'],
      ['e/z', 'open'],
    ])
  })

  it('shows what was short, also at the end', () => {
    const [band] = bandsOf([stretch('e/m', 'open', at(9, 59), at(10))], since, until)
    expect(band!.pieces[0]!.width).toBe(0.4)
    expect(band!.pieces[0]!.left + band!.pieces[0]!.width).toBeLessThanOrEqual(100)
    expect(bandsOf([stretch('e/m', 'open', at(-2), at(-1))], since, until)).toEqual([])
  })
})
