// what is called by code and named in no template is not found by the resolver of vite.config.ts
import 'element-plus/es/components/message/style/css'
import 'element-plus/es/components/message-box/style/css'
import 'element-plus/theme-chalk/dark/css-vars.css'
import '@/styles/tokens.css'
import '@/styles/base.css'

import { createPinia } from 'pinia'
import { createApp } from 'vue'

import { onSignedOut } from '@/api/session'
import App from '@/App.vue'
import { createConsoleRouter, toLogin } from '@/router'
import { i18n, setupI18n } from '@/setup-i18n'
import { usePreferences } from '@/stores/preferences'
import { useSession } from '@/stores/session'

const app = createApp(App)
app.use(createPinia())
const preferences = usePreferences()
await setupI18n(() => preferences.locale)
app.use(i18n)
const router = createConsoleRouter()
onSignedOut(() => {
  useSession().me = undefined
  void router.push(toLogin(router.currentRoute.value.fullPath))
})
app.use(router)
await router.isReady()
app.mount('#app')
