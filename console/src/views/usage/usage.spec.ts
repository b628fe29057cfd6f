import { describe, expect, it } from 'vitest'

import { DEFAULTS, asked, questionOf } from './usage'

const NOW = Date.parse('2026-11-24T13:20:30Z')

describe('questionOf', () => {
  it('reads the address', () => {
    const question = questionOf({ ...DEFAULTS, range: '24h', zone: 'Asia/Shanghai', by: 'key', measure: 'tokens', top: '5', team: 'lab' }, NOW)
    expect(question).toMatchObject({ by: 'key', measure: 'tokens', top: 5, step: 'hour', filters: { team: 'lab' } })
    expect(asked(question)).toEqual({
      since: '2026-11-23T14:00:00.000Z', until: '2026-11-24T13:20:30.000Z', timezone: 'Asia/Shanghai', team: 'lab',
    }) // prettier-ignore
  })

  it('takes what is wrong as not said', () => {
    const question = questionOf({ ...DEFAULTS, range: 'x', zone: 'Mars/Base', by: 'cost', measure: 'by', top: '1e9', step: 'minute' }, NOW)
    expect(question).toMatchObject({ by: 'route', measure: 'cost', top: 20, step: 'day', filters: {} })
  })

  it('has hours only where the API can give them', () => {
    expect(questionOf({ ...DEFAULTS, range: '7d', step: 'hour' }, NOW).step).toBe('hour')
    expect(questionOf({ ...DEFAULTS, range: '90d', step: 'hour' }, NOW)).toMatchObject({ step: 'day', hours: false })
  })
})
