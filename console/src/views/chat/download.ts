/** Hand a text to the browser as a file. `kind` is its ending. */
export function download(name: string, text: string, kind: string): void {
  const link = document.createElement('a')
  link.href = URL.createObjectURL(new Blob([text], { type: kind === 'json' ? 'application/json' : 'text/markdown' }))
  link.download = `${name.replace(/[\\/:*?"<>|\p{Cc}]+/gu, ' ').trim().slice(0, 80) || 'chat'}.${kind}`
  link.click()
  URL.revokeObjectURL(link.href)
}
