import type { RouteRecordRaw } from 'vue-router'

export default [
  {
    path: '/jobs',
    name: 'jobs',
    meta: { permissions: ['training:list'], nav: { group: 'build', order: 50, icon: 'TrendCharts' } },
    component: () => import('./JobList.vue'),
  },
  {
    path: '/jobs/new',
    name: 'job-new',
    meta: { permissions: ['training:own'], parent: 'jobs' },
    component: () => import('./JobNew.vue'),
  },
  {
    path: '/jobs/compare',
    name: 'job-compare',
    meta: { permissions: ['training:list'], parent: 'jobs' },
    component: () => import('./JobCompare.vue'),
  },
  {
    path: '/jobs/of/:name',
    name: 'job',
    meta: { permissions: ['training:list'], parent: 'jobs' },
    component: () => import('./JobPage.vue'),
  },
] satisfies RouteRecordRaw[]
