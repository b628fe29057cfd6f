/** What went wrong with a call, whatever it was: the API's RFC 9457 problem, or no answer at all. */
import { isAxiosError } from 'axios'

import type { ProblemBody } from './generated'

export class ApiError extends Error {
  constructor(
    /** HTTP status; 0 if no answer came. */
    readonly status: number,
    /** From the API's closed vocabulary, or `network`. */
    readonly code: string,
    message: string,
    /** Field (such as `name` or `spec.targets.0.model`) -> what is wrong with it. */
    readonly fields: Record<string, string> = {},
    /** Seconds until it is worth another try, if the answer said so. */
    readonly retryAfter?: number,
  ) {
    super(message)
  }

  static from(error: unknown): ApiError {
    if (error instanceof ApiError) return error
    if (!isAxiosError(error)) return new ApiError(0, 'bug', error instanceof Error ? error.message : String(error))
    const answer = error.response
    if (!answer) return new ApiError(0, 'network', error.message)
    const problem = (answer.data ?? {}) as Partial<ProblemBody>
    const fields = Object.fromEntries((problem.errors ?? []).map((e) => [e.at.replace(/^body\./, ''), e.message]))
    const wait = Number(answer.headers['retry-after'])
    return new ApiError(
      answer.status,
      problem.code ?? 'unknown',
      problem.detail ?? problem.title ?? answer.statusText,
      fields,
      Number.isFinite(wait) && wait > 0 ? wait : undefined,
    )
  }
}

/** The data of a generated call; rejects with an ApiError. */
export async function call<T>(request: Promise<{ data?: T; error?: unknown }>): Promise<T> {
  const answer = await request
  if (answer instanceof Error) throw ApiError.from(answer)
  return answer.data as T
}
