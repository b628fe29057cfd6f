import { describe, expect, it } from 'vitest'

import { PRESETS, fresh, fromSpec, toSpec } from '@/views/jobs/jobForm'

describe('the form of a new job', () => {
  it('sends only what was said', () => {
    const form = { ...fresh(), name: ' bot ', base: '/m', train: 'd@1', lora: { r: 8, dropout: undefined, targets: '' }, training: { epochs: 1, max_steps: null } }
    expect(toSpec(form)).toEqual({
      name: 'bot', recipe: 'lora_sft', base: { source: 'path', id: '/m' }, data: { train: 'd@1', validation_share: 0.1 }, lora: { r: 8 }, training: { epochs: 1 },
    })
  })

  it('leaves the adapter out where all weights are trained, and the share where there are rows', () => {
    const spec = toSpec({ ...fresh(), name: 'b', recipe: 'full_sft', base: '/m', train: 'd@1', validation: 'd@2', processes: 2, prompts: 'a\n\n b ', hours: 1, adapter: 'other' })
    expect(spec).toMatchObject({ data: { train: 'd@1', validation: 'd@2' }, resources: { processes: 2 }, prompts: ['a', 'b'], max_hours: 1, adapter: 'other' })
    expect(spec.lora).toBeUndefined()
    expect(spec.data.validation_share).toBeUndefined()
  })

  it('begins from another job and comes back as it was, under another name', () => {
    const spec = toSpec({ ...fresh(), name: 'b', base: '/m', train: 'd@1', questions: 'q@1', ...PRESETS.thorough, prompts: 'hi' })
    expect(toSpec(fromSpec(spec))).toEqual({ ...spec, name: 'b-2', adapter: 'b' })
  })
})
