import { ref } from 'vue'
import { useI18n } from 'vue-i18n'

import { exportUsage } from '@/api/generated'
import { call } from '@/api/problem'
import { save } from '@/api/save'
import { useAction } from '@/composables/useAction'

type Question = NonNullable<Parameters<typeof exportUsage>[0]>['query']

/** The CSV of a report, fetched with the login of this browser and saved as a file. */
export function useExport() {
  const { t } = useI18n()
  const { busy, run } = useAction()
  /** Of what has arrived; undefined while nobody knows how much there will be. */
  const percent = ref<number>()

  async function start(query: Question) {
    percent.value = undefined
    await run(async () => {
      const text = await call(
        exportUsage({
          query,
          responseType: 'text',
          timeout: 120_000,
          onDownloadProgress: ({ loaded, total }) => (percent.value = total ? Math.round((100 * loaded) / total) : undefined),
        }),
      )
      save(new Blob([text as string], { type: 'text/csv;charset=utf-8' }), `usage-${String(query?.since).slice(0, 10)}-${String(query?.until).slice(0, 10)}.csv`)
    }, t('usage.exported'))
  }

  return { busy, percent, start }
}
