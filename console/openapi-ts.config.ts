import { defineConfig } from '@hey-api/openapi-ts'

export default defineConfig({
  input: '../docs/openapi.json',
  output: { path: 'src/api/generated' },
  parser: { filters: { operations: { exclude: ['/^\\S+ \\/internal\\/.*/'] } } },
  plugins: ['@hey-api/typescript', '@hey-api/schemas', '@hey-api/sdk', { name: '@hey-api/client-axios', runtimeConfigPath: '../setup' }],
})
