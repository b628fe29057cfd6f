import type { RouteRecordRaw } from 'vue-router'

export default [
  {
    path: '/chat',
    name: 'chat',
    meta: { permissions: ['keys:own'], nav: { group: 'use', order: 20, icon: 'ChatDotRound' } },
    component: () => import('./ChatPage.vue'),
  },
] satisfies RouteRecordRaw[]
