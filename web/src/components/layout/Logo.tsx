/** The mark of the project, as in public/icon.svg. Decorative. */
export function Logo({ size = 28 }: { readonly size?: number }) {
  return <img src="/icon.svg" alt="" width={size} height={size} />;
}
