import type { UserCreate } from '@/api/generated'

/** From the most to the least that a role may do. */
export const ROLES: readonly UserCreate['role'][] = ['admin', 'operator', 'engineer', 'member', 'viewer']
