/** What jobs look like: colours of states, figures by step. */
import type { Job, MetricPoint } from '@/api/generated'
import type { ChartLook } from '@/charts/look'
import { timeChart } from '@/charts/timeChart'

export type State = Job['state']
type Colour = 'primary' | 'success' | 'warning' | 'danger' | 'info'

export const COLOUR: Record<State, Colour> = {
  draft: 'info', validating: 'info', rejected: 'danger', queued: 'warning', allocating: 'warning', preparing: 'primary', running: 'primary',
  finalizing: 'primary', stopping: 'warning', stopped: 'info', succeeded: 'success', failed: 'danger', lost: 'danger', canceled: 'info',
}
const MOVING: State[] = ['queued', 'allocating', 'preparing', 'running', 'finalizing', 'stopping', 'lost']
export const isMoving = (state: State) => MOVING.includes(state)
export const isHeld = (state: State) => isMoving(state) && state !== 'queued' && state !== 'lost'

/** It takes an adapter that is there, and is begun from the adapter's page. */
export const isOfAnAdapter = (recipe: string) => recipe === 'merge' || recipe === 'evaluate'

/** Charts of a job, each with the metrics that share an axis. */
export const CHARTS: { name: string; metrics: string[] }[] = [
  { name: 'loss', metrics: ['loss', 'eval_loss'] },
  { name: 'learning_rate', metrics: ['learning_rate'] },
  { name: 'grad_norm', metrics: ['grad_norm'] },
  { name: 'tokens_per_second', metrics: ['tokens_per_second'] },
  { name: 'memory_mib', metrics: ['memory_mib'] },
  { name: 'gpu_percent', metrics: ['gpu_percent'] },
]

/** Most points of a line: more than a screen has columns say nothing more. */
export const MOST = 1200

/** Known points and newer ones: of a step that is in both, the newer values. */
export function merged(known: MetricPoint[], newer: MetricPoint[]): MetricPoint[] {
  const byStep = new Map(known.map((point) => [point.step, point]))
  newer.forEach((point) => byStep.set(point.step, point))
  return [...byStep.values()].sort((a, b) => a.step - b.step)
}

/** Every n-th point, so that at most `most` are left; the last one, and those with a figure that few points have, stay. */
export function thinned(points: MetricPoint[], rare: string[], most = MOST): MetricPoint[] {
  const every = Math.ceil(points.length / most)
  return every < 2 ? points : points.filter((point, index) => index % every === 0 || index === points.length - 1 || rare.some((name) => name in point.values))
}

/** A weighted mean of each value and those before it, `weight` of the past; gaps stay. */
export function smoothed(values: (number | null)[], weight: number): (number | null)[] {
  let mean: number | null = null
  return values.map((value) => {
    if (value === null) return null
    mean = mean === null ? value : weight * mean + (1 - weight) * value
    return mean
  })
}

/** Figures are small, large or in between: four digits say enough. */
export const figure = (value: number) => (value === 0 ? '0' : Math.abs(value) >= 1000 ? Math.round(value).toLocaleString('en') : Math.abs(value) < 0.001 ? value.toExponential(2) : String(Number(value.toPrecision(4))))

export interface Line {
  name: string
  points: MetricPoint[]
  metric: string
}

/** The option and table of lines over the steps of all of them. */
export function stepChart(lines: Line[], weight: number, stepTitle: (step: string) => string, look: ChartLook) {
  const steps = [...new Set(lines.flatMap((line) => line.points.filter((point) => line.metric in point.values).map((point) => point.step)))].sort((a, b) => a - b)
  const axis = steps.map(String)
  const series = lines.map((line) => {
    const byStep = new Map(line.points.map((point) => [point.step, point.values[line.metric] ?? null]))
    const values = steps.map((step) => byStep.get(step) ?? null)
    return { name: line.name, values: weight && line.metric === 'loss' ? smoothed(values, weight) : values }
  })
  return {
    option: timeChart({ kind: 'lines', axis, titles: axis.map(stepTitle), series, format: figure, look, connect: true }),
    rows: axis.map((step, index) => [step, ...series.map(({ values }) => (values[index] === null ? '–' : figure(values[index]!)))]),
  }
}

/** Seconds in words that a person says: 1 h 20 min. */
export function duration(seconds: number): string {
  const whole = Math.max(0, Math.round(seconds))
  if (whole < 60) return `${whole} s`
  if (whole < 3600) return `${Math.floor(whole / 60)} min ${whole % 60} s`
  return `${Math.floor(whole / 3600)} h ${Math.floor((whole % 3600) / 60)} min`
}
