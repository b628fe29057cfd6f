import type { RouteRecordRaw } from 'vue-router'

export default [
  {
    path: '/audit',
    name: 'audit',
    meta: { permissions: ['audit:read'], nav: { group: 'govern', order: 40, icon: 'Document' } },
    component: () => import('./AuditList.vue'),
  },
] satisfies RouteRecordRaw[]
