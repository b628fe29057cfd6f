/** Sending a file in pieces: after a break it goes on from what has arrived. */
import { ApiError } from '@/api/problem'

export const PIECE = 8 * 1024 * 1024
const TRIES = 5

export interface Wire {
  /** Send a piece from an offset; how many bytes have arrived. */
  put(offset: number, piece: Blob): Promise<number>
  /** How many bytes have arrived. */
  size(): Promise<number>
  wait(seconds: number): Promise<void>
}

/** Whether it may work the next time: no answer came, or the server could not give one. */
const mayPass = (error: ApiError) => error.status === 0 || error.status >= 500 || error.code === 'wrong_offset'

/** Send a whole file; `told` hears of every step. Rejects when a piece fails several times in a row. */
export async function sendFile(file: Blob, wire: Wire, told: (bytes: number) => void, piece = PIECE): Promise<void> {
  let sent = await wire.size()
  let failures = 0
  while (sent < file.size) {
    told(sent)
    try {
      sent = await wire.put(sent, file.slice(sent, sent + piece))
      failures = 0
    } catch (cause) {
      const error = ApiError.from(cause)
      failures += 1
      if (failures >= TRIES || !mayPass(error)) throw error
      await wire.wait(2 ** failures)
      sent = await wire.size().catch(() => sent)
    }
  }
  told(sent)
}
