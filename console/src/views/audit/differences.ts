/** Values of two JSON objects side by side, by their path; changed ones first. */
export interface Line {
  at: string
  before?: string
  after?: string
  changed: boolean
}

function leaves(text: string): Map<string, string> {
  const found = new Map<string, string>()
  const walk = (at: string, value: unknown) => {
    if (value !== null && typeof value === 'object' && Object.keys(value).length) {
      for (const [key, inner] of Object.entries(value)) walk(at ? `${at}.${key}` : key, inner)
    } else {
      found.set(at, typeof value === 'string' ? value : JSON.stringify(value))
    }
  }
  if (text) walk('', JSON.parse(text))
  return found
}

export function differences(before: string, after: string): Line[] {
  const [old, fresh] = [leaves(before), leaves(after)]
  return [...new Set([...old.keys(), ...fresh.keys()])]
    .map((at) => ({ at, before: old.get(at), after: fresh.get(at), changed: old.get(at) !== fresh.get(at) }))
    .sort((a, b) => Number(b.changed) - Number(a.changed) || a.at.localeCompare(b.at))
}
