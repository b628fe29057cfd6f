import { onBeforeUnmount, onMounted } from 'vue'

/** Do something every so many seconds as long as the page is there and seen, one after another. */
export function usePolling(seconds: () => number, work: () => Promise<unknown>): void {
  let timer: ReturnType<typeof setTimeout> | undefined
  let gone = false
  const wait = () => {
    if (!gone) timer = setTimeout(() => void turn(), seconds() * 1000)
  }
  async function turn() {
    try {
      if (!document.hidden) await work()
    } finally {
      wait()
    }
  }
  onMounted(wait)
  onBeforeUnmount(() => {
    gone = true
    clearTimeout(timer)
  })
}
