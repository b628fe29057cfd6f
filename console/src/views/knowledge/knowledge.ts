/** What the pages of knowledge bases share. */
import type { KnowledgeBase, KnowledgeDocument, KnowledgeIndex, Retrieval } from '@/api/generated'

export const COLOURS = { waiting: 'info', parsing: 'primary', embedding: 'primary', ready: 'success', failed: 'danger' } as const

/** The index that answers now, if there is one. */
export const liveOf = (base: KnowledgeBase): KnowledgeIndex | undefined => base.indexes.find((one) => one.state === 'live')

/** The newest index: documents are shown as they stand in it. */
export const newestOf = (base: KnowledgeBase): KnowledgeIndex | undefined => base.indexes[0]

/** Whether anything is under way, so that the page looks again soon. */
export const isMoving = (index: KnowledgeIndex | undefined) => !!index && (index.state === 'building' || index.ready + index.failed < index.documents)

/** How far a document is, 0 to 100. */
export const shareOf = (one: KnowledgeDocument) => (one.state === 'ready' ? 100 : one.total ? Math.floor((100 * one.done) / one.total) : 0)

/** Name of what embeds. */
export const embedderOf = (index: KnowledgeIndex) => (index.embedding.kind === 'local' ? index.embedding.model : index.embedding.route)

/** What a route decides of a search. */
export interface Limits {
  top_k: number
  score_floor: number
  token_budget: number
}

/** What a base decides of a search. */
export type Tried = Required<Retrieval>

export const triedOf = ({ retrieval }: KnowledgeBase): Tried => ({
  mode: retrieval.mode ?? 'hybrid',
  candidates: retrieval.candidates ?? 40,
  diversity: retrieval.diversity ?? 0,
  expand: retrieval.expand ?? 'chunk',
  rerank: retrieval.rerank ?? null,
})

/** The beginning of a passage, by which a test set knows it again wherever it is cut next time. */
export const opening = (text: string) => [...text.trim()].slice(0, 120).join('')

export interface Piece {
  text: string
  hit: boolean
}

/** A text cut at the words of a query, for marking: whole words of Latin scripts, pairs of Chinese characters. */
export function marked(text: string, query: string): Piece[] {
  const words = query.match(/[\p{Script=Han}]{2,}|[\p{L}\p{N}_-]{2,}/gu) ?? []
  const parts = words.flatMap((word) => (/\p{Script=Han}/u.test(word) ? pairs(word) : [word]))
  if (!parts.length) return [{ text, hit: false }]
  const escaped = [...new Set(parts)].sort((a, b) => b.length - a.length).map((part) => part.replace(/[.*+?^${}()|[\]\\]/g, '\\$&'))
  const found = new RegExp(`(${escaped.join('|')})`, 'giu')
  return text.split(found).map((piece, at) => ({ text: piece, hit: at % 2 === 1 })).filter((piece) => piece.text)
}

const pairs = (word: string) => [...word].slice(1).map((_, at) => [...word].slice(at, at + 2).join(''))
