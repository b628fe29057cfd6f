import vue from 'eslint-plugin-vue'
import ts from 'typescript-eslint'

/** Folders that may not be imported from a folder: views → components, composables, charts → stores → api. */
const layers = [
  ['src/components', ['@/views/**', '@/stores/**', '@/api/**', '@/router/**', '@/layouts/**']],
  ['src/charts', ['@/views/**', '@/stores/**', '@/router/**', '@/layouts/**', '@/components/**']],
  ['src/composables', ['@/views/**', '@/layouts/**']],
  ['src/stores', ['@/views/**', '@/components/**', '@/layouts/**', '@/router/**']],
  ['src/api', ['@/views/**', '@/stores/**', '@/components/**', '@/composables/**', '@/router/**', '@/layouts/**']],
]

export default ts.config(
  { ignores: ['dist', 'src/api/generated', 'src/components.d.ts'] },
  ...ts.configs.recommended,
  ...vue.configs['flat/recommended'],
  {
    files: ['**/*.vue'],
    languageOptions: { parserOptions: { parser: ts.parser } },
    rules: {
      'vue/max-attributes-per-line': 'off',
      'vue/singleline-html-element-content-newline': 'off',
      'vue/html-self-closing': ['warn', { html: { void: 'always' } }],
      'vue/html-indent': 'off',
      'vue/html-closing-bracket-newline': 'off',
      'vue/multiline-html-element-content-newline': 'off',
      'vue/no-v-html': 'error',
      'vue/no-bare-strings-in-template': ['error', { allowlist: [':', '·', '→', '–', '/', '%', '×', '(', ')', '+', ','] }],
      'vue/component-api-style': ['error', ['script-setup']],
      'vue/block-lang': ['error', { script: { lang: 'ts' } }],
    },
  },
  {
    files: ['src/**/*.{ts,vue}'],
    rules: { 'max-lines': ['error', 300], 'no-console': 'error', eqeqeq: 'error' },
  },
  ...layers.map(([folder, group]) => ({
    files: [`${folder}/**/*.{ts,vue}`],
    rules: {
      '@typescript-eslint/no-restricted-imports': [
        'error',
        { patterns: [{ group, message: 'views → components, composables, charts → stores → api', allowTypeImports: true }] },
      ],
    },
  })),
)
