import { save } from '@/api/save'

/** Hand a text to the browser as a file. `kind` is its ending. */
export function download(name: string, text: string, kind: string): void {
  const clean = name.replace(/[\\/:*?"<>|\p{Cc}]+/gu, ' ').trim().slice(0, 80) || 'chat'
  save(new Blob([text], { type: kind === 'json' ? 'application/json' : 'text/markdown' }), `${clean}.${kind}`)
}
