import { expect, it } from 'vitest'

import { sparkline } from './sparkline'

it('goes from the left to the right, as high as the values are', () => {
  expect(sparkline([0, 4, 2], 100, 20)).toBe('M0.0 20.0L50.0 0.0L100.0 10.0')
})

it('lies on the ground when there is nothing', () => {
  expect(sparkline([0, 0], 10, 5)).toBe('M0.0 5.0L10.0 5.0')
  expect(sparkline([], 10, 5)).toBe('')
})
