import { expect, it } from 'vitest'

import { amountsOf, toCreate } from './prices'

it('a form is sent with what was typed, and nothing else', () => {
  const form = { kind: 'endpoint' as const, place: 'openai-eu', model: ' gpt-4o ', amounts: { ...amountsOf(), input: '2.50', output: ' 10 ' }, currency: 'USD', source: '' }
  const body = { endpoint: 'openai-eu', model: 'gpt-4o', price: { input: '2.50', output: '10' }, currency: 'USD', source: '' }
  expect(toCreate({ ...form, from: null })).toEqual(body)
  expect(toCreate({ ...form, kind: 'provider', from: new Date('2027-01-01T00:00:00Z') })).toEqual({
    ...body, endpoint: undefined, provider: 'openai-eu', effective_from: '2027-01-01T00:00:00.000Z',
  }) // prettier-ignore
})

it('amounts that nobody has said are empty, and zero is an amount', () => {
  expect(amountsOf({ input: '0', output: '1.50', cached_input: null })).toEqual({ input: '0', output: '1.5', cached_input: '', cache_write: '', reasoning: '' })
})
