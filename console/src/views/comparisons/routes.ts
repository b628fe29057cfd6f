import type { RouteRecordRaw } from 'vue-router'

export default [
  {
    path: '/compare',
    name: 'compare',
    meta: { permissions: ['comparisons:own'], nav: { group: 'use', order: 25, icon: 'Switch' } },
    component: () => import('./LivePage.vue'),
  },
  {
    path: '/suites',
    name: 'suites',
    meta: { permissions: ['comparisons:list'], nav: { group: 'build', order: 35, icon: 'ScaleToOriginal' } },
    component: () => import('./SuiteList.vue'),
  },
  {
    path: '/suites/:name',
    name: 'suite',
    meta: { permissions: ['comparisons:list'], parent: 'suites' },
    component: () => import('./SuitePage.vue'),
  },
  {
    path: '/runs/:id',
    name: 'run',
    meta: { permissions: ['comparisons:list'], parent: 'suites' },
    component: () => import('./RunPage.vue'),
  },
  {
    path: '/shared',
    name: 'shared',
    meta: { permissions: ['shared:read'] },
    component: () => import('./SharedPage.vue'),
  },
  {
    path: '/runs/:id/review',
    name: 'review',
    meta: { permissions: ['comparisons:own'], parent: 'suites' },
    component: () => import('./ReviewPage.vue'),
  },
] satisfies RouteRecordRaw[]
