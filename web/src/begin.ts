/**
 * Begin the page, and report how that ended to public/assets/theme.js: on a failure it says so in
 * place of the spinner, which would turn for ever.
 */
export async function begin(start: () => Promise<void>): Promise<void> {
  try {
    await start();
  } catch (error) {
    dispatchEvent(new Event("sluice:start-failed"));
    // For the console and whoever collects errors.
    reportError(error);
    return;
  }
  dispatchEvent(new Event("sluice:started"));
}
