import { expect, it } from 'vitest'

import { differences } from './differences'

it('puts changed values first and shows each by its path', () => {
  const before = JSON.stringify({ name: 'a', limits: { rpm: 5 }, cidrs: [] })
  const after = JSON.stringify({ name: 'a', limits: { rpm: 9, tpm: 1 }, cidrs: ['::1'] })
  expect(differences(before, after)).toEqual([
    { at: 'cidrs', before: '[]', after: undefined, changed: true },
    { at: 'cidrs.0', before: undefined, after: '::1', changed: true },
    { at: 'limits.rpm', before: '5', after: '9', changed: true },
    { at: 'limits.tpm', before: undefined, after: '1', changed: true },
    { at: 'name', before: 'a', after: 'a', changed: false },
  ])
  expect(differences('', '{"x":null}')).toEqual([{ at: 'x', before: undefined, after: 'null', changed: true }])
})
