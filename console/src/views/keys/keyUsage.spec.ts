import { describe, expect, it } from 'vitest'

import { inDays, stateOf } from './keyUsage'

const NOW = Date.parse('2026-11-24T00:00:00Z')

it('a number of days is a moment, and anything else is none', () => {
  expect(inDays('7', NOW)).toBe('2026-12-01T00:00:00.000Z')
  for (const wrong of ['', undefined, '0', '-1', 'week', 'Infinity', '1e99']) expect(inDays(wrong, NOW)).toBeUndefined()
})

describe('the state of a key', () => {
  const key = { revoked_at: null, enabled: true, expires_at: null }

  it('is the strongest reason why it does not work', () => {
    expect(stateOf(key, NOW)).toBe('active')
    expect(stateOf({ ...key, expires_at: '2026-11-25T00:00:00Z' }, NOW)).toBe('active')
    expect(stateOf({ ...key, expires_at: '2026-11-23T00:00:00Z' }, NOW)).toBe('expired')
    expect(stateOf({ ...key, enabled: false, expires_at: '2026-11-23T00:00:00Z' }, NOW)).toBe('disabled')
    expect(stateOf({ ...key, enabled: false, revoked_at: '2026-11-23T00:00:00Z' }, NOW)).toBe('revoked')
  })
})
