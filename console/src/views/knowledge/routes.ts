import type { RouteRecordRaw } from 'vue-router'

export default [
  {
    path: '/knowledge',
    name: 'knowledge',
    meta: { permissions: ['knowledge:list'], nav: { group: 'build', order: 30, icon: 'Notebook' } },
    component: () => import('./BaseList.vue'),
  },
  {
    path: '/knowledge/:name',
    name: 'knowledge-base',
    meta: { permissions: ['knowledge:list'], parent: 'knowledge' },
    component: () => import('./BasePage.vue'),
  },
  {
    path: '/knowledge/:name/documents/:id',
    name: 'knowledge-document',
    meta: { permissions: ['knowledge:own', 'knowledge:read'], parent: 'knowledge' },
    component: () => import('./DocumentPage.vue'),
  },
] satisfies RouteRecordRaw[]
