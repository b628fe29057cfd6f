import type { User } from '@/api/generated'

/** From the most to the least that a role may do. */
export const ROLES: readonly User['role'][] = ['admin', 'operator', 'engineer', 'member', 'viewer']
