import { readFileSync } from 'node:fs'
import { fileURLToPath } from 'node:url'

import vue from '@vitejs/plugin-vue'
import { ElementPlusResolver } from 'unplugin-vue-components/resolvers'
import Components from 'unplugin-vue-components/vite'
import type { Plugin } from 'vite'
import { defineConfig } from 'vitest/config'

/** The page of the API, /docs, draws itself with Swagger UI: from here, since many installations have no internet. */
const swagger: Plugin = {
  name: 'swagger',
  apply: 'build',
  generateBundle() {
    for (const file of ['swagger-ui-bundle.js', 'swagger-ui.css']) {
      const source = readFileSync(new URL(`./node_modules/swagger-ui-dist/${file}`, import.meta.url))
      this.emitFile({ type: 'asset', fileName: `swagger/${file}`, source })
    }
  },
}

/** Only the Element Plus components that a page names are built in, each with its own style. */
export default defineConfig({
  plugins: [
    vue(),
    swagger,
    Components({ dirs: ['src/components'], resolvers: [ElementPlusResolver()], dts: 'src/components.d.ts' }),
  ],
  resolve: { alias: { '@': fileURLToPath(new URL('./src', import.meta.url)) } },
  build: {
    chunkSizeWarningLimit: 700,
    rollupOptions: {
      output: {
        manualChunks: (id) =>
          /node_modules\/(echarts|zrender)\//.test(id)
            ? 'charts'
            : /node_modules\/(@vue|vue|vue-router|vue-i18n|@intlify|pinia|axios)\//.test(id)
              ? 'vue'
              : undefined,
      },
    },
  },
  server: { proxy: { '/api': process.env.TUNEGATE_CONSOLE_URL ?? 'http://127.0.0.1:8080' } },
  test: { environment: 'happy-dom', server: { deps: { inline: ['element-plus'] } }, include: ['src/**/*.spec.ts'] },
})
