/** JSON schema of a form's fields, as far as the console draws it. */
export interface Schema {
  type?: string
  title?: string
  description?: string
  default?: unknown
  enum?: string[]
  const?: unknown
  minimum?: number
  maximum?: number
  exclusiveMinimum?: number
  items?: Schema
  properties?: Record<string, Schema>
  additionalProperties?: Schema | boolean
  anyOf?: Schema[]
  $ref?: string
  $defs?: Record<string, Schema>
}

export type Kind = 'text' | 'number' | 'flag' | 'choice' | 'list' | 'map' | 'group'

/** The schema itself: references followed, and of `X or null` the X. */
export function resolved(schema: Schema, defs: Record<string, Schema> = {}): Schema {
  if (schema.$ref) return { ...resolved(defs[schema.$ref.split('/').pop()!] ?? {}, defs), ...{ default: schema.default } }
  const some = schema.anyOf?.filter((one) => one.type !== 'null')
  if (some?.length) return { ...schema, ...resolved(some[0]!, defs), default: schema.default }
  return schema
}

/** How a field is drawn. */
export function kindOf(schema: Schema): Kind {
  if (schema.enum) return 'choice'
  if (schema.type === 'boolean') return 'flag'
  if (schema.type === 'integer' || schema.type === 'number') return 'number'
  if (schema.type === 'array') return 'list'
  if (schema.type === 'object') return schema.properties && Object.keys(schema.properties).length ? 'group' : 'map'
  return 'text'
}

/** What is wrong with a field, or else with a part of it, such as one line of a list. */
export function errorIn(errors: Record<string, string>, field: string): string | undefined {
  return errors[field] ?? Object.entries(errors).find(([at]) => at.startsWith(`${field}.`))?.[1]
}
