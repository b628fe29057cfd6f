/** All pages of a list, one after another. */
export async function everything<T>(load: (page: { page: number; per_page: number }) => Promise<{ items: T[]; total: number }>): Promise<T[]> {
  const found: T[] = []
  for (let page = 1; ; page++) {
    const { items, total } = await load({ page, per_page: 200 })
    found.push(...items)
    if (!items.length || found.length >= total) return found
  }
}
