/** The form of a new job: presets, and what is sent of it. */
import type { JobSpec } from '@/api/generated'

export type Recipe = NonNullable<JobSpec['recipe']>
type Group = Record<string, unknown>

export interface JobForm {
  name: string
  recipe: Recipe
  source: 'path' | 'modelscope' | 'huggingface'
  base: string
  revision: string
  train: string
  validation: string
  /** Percent of the training rows that are held out, where there are no rows for it. */
  held: number
  /** Multiple-choice questions to be asked after training. */
  questions: string
  lora: Group
  training: Group
  processes: number
  prompts: string
  hours: number | undefined
  adapter: string
}

/** Settings to begin with; what a preset does not say is the default. */
export const PRESETS: Record<'quick' | 'balanced' | 'thorough' | 'small', { lora: Group; training: Group }> = {
  quick: { lora: { r: 8, alpha: 16 }, training: { max_steps: 30, micro_batch: 2, accumulation: 2, max_length: 512, precision: 'fp32', save_every: 10, eval_every: 10 } },
  balanced: { lora: { r: 16, alpha: 32 }, training: { epochs: 3, learning_rate: 0.0002, eval_every: 50 } },
  thorough: { lora: { r: 64, alpha: 128, dropout: 0.05 }, training: { epochs: 5, learning_rate: 0.0001, warmup_steps: 20, eval_every: 50, early_stop: 3 } },
  small: { lora: { r: 16, alpha: 32 }, training: { micro_batch: 1, accumulation: 16, gradient_checkpointing: true, max_length: 1024, eval_every: 50 } },
}

export const fresh = (): JobForm => ({
  name: '', recipe: 'lora_sft', source: 'path', base: '', revision: '', train: '', validation: '', held: 10, questions: '', processes: 1, prompts: '', hours: undefined, adapter: '',
  lora: { ...PRESETS.balanced.lora }, training: { ...PRESETS.balanced.training },
})

/** The form of a job like one that is there. */
export function fromSpec(spec: JobSpec): JobForm {
  return {
    name: `${spec.name}-2`, recipe: spec.recipe ?? 'lora_sft', source: spec.base.source ?? 'path', base: spec.base.id, revision: spec.base.revision ?? '',
    train: spec.data.train, validation: spec.data.validation ?? '', held: Math.round((spec.data.validation_share ?? 0) * 100), questions: spec.eval?.data ?? '',
    lora: { ...spec.lora } as Group, training: { ...spec.training } as Group, processes: spec.resources?.processes ?? 1,
    prompts: (spec.prompts ?? []).join('\n'), hours: spec.max_hours ?? undefined, adapter: spec.adapter ?? spec.name,
  }
}

const isSet = (value: unknown) => value !== undefined && value !== null && value !== ''
const set = (group: Group) => Object.fromEntries(Object.entries(group).filter(([, value]) => isSet(value)))

/** What is sent. */
export function toSpec(form: JobForm): JobSpec {
  const prompts = form.prompts.split('\n').map((line) => line.trim()).filter(Boolean)
  return {
    name: form.name.trim(),
    recipe: form.recipe,
    base: { source: form.source, id: form.base.trim(), ...(form.revision.trim() ? { revision: form.revision.trim() } : {}) },
    data: { train: form.train, ...(form.validation ? { validation: form.validation } : { validation_share: form.held / 100 }) },
    ...(form.recipe === 'full_sft' ? {} : { lora: set(form.lora) }),
    training: set(form.training),
    ...(form.processes > 1 ? { resources: { processes: form.processes } } : {}),
    ...(prompts.length ? { prompts } : {}),
    ...(form.questions ? { eval: { data: form.questions } } : {}),
    ...(form.hours ? { max_hours: form.hours } : {}),
    ...(form.adapter.trim() && form.adapter.trim() !== form.name.trim() ? { adapter: form.adapter.trim() } : {}),
  }
}
