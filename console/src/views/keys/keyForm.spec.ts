import { describe, expect, it } from 'vitest'

import type { ApiKey } from '@/api/generated'

import { fromKey, toBody } from './keyForm'

const key: ApiKey = {
  name: 'app', public_name: 'app@alice', owner: 'alice', owner_kind: 'user', prefix: 'sk-tg-abc', enabled: true, note: 'n', log_bodies: false,
  models: ['gpt-4o', 'qwen/*'], cidrs: ['10.0.0.0/8', '::1/128'], limits: { rpm: 5 }, row_version: 3,
  budgets: [{ amount: '5', window: 'day', timezone: 'UTC' }], created_at: '', created_by: '', last_used_at: null,
  old_until: null, revoked_at: null, spending: [], expires_at: '2027-01-31T00:00:00Z',
} // prettier-ignore

describe('the form of a key', () => {
  it('gives back what it was filled with', () => {
    expect(toBody(fromKey(key))).toEqual({
      expires_at: '2027-01-31T00:00:00.000Z',
      models: ['gpt-4o', 'qwen/*'],
      limits: { rpm: 5 },
      budgets: [{ amount: '5', window: 'day', timezone: 'UTC' }],
      cidrs: ['10.0.0.0/8', '::1/128'],
      note: 'n',
      log_bodies: false,
    })
  })

  it('means all models and no limits when it is empty', () => {
    expect(toBody(fromKey())).toEqual({ expires_at: null, models: ['*'], limits: {}, budgets: [], cidrs: [], note: '', log_bodies: true })
  })
})
