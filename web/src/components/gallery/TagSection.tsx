import { useMutation, useQueryClient } from "@tanstack/react-query";
import { useTranslation } from "react-i18next";
import type { PhotoView } from "@/lib/api/schema";
import { newKey } from "@/lib/api/upload";
import { toaster } from "@/stores/toastStore";
import { errorText } from "./reasons";
import { useGalleryServices } from "./services";
import { TagInput } from "./TagInput";
import { TagList } from "./TagList";
import styles from "./PhotoDetails.module.css";

interface Change {
  readonly kind: "add" | "remove";
  readonly tag: string;
}

export interface TagSectionProps {
  readonly photoId: string;
  readonly tags: readonly string[];
}

/** The tags of a photo: added and removed at once, and put back if the server refuses. */
export function TagSection({ photoId, tags }: TagSectionProps) {
  const { photos: calls } = useGalleryServices();
  const { t } = useTranslation();
  const client = useQueryClient();
  const key = ["photo", photoId];
  const setTags = (changed: (before: readonly string[]) => readonly string[]) => {
    client.setQueryData<PhotoView>(
      key,
      (photo) => photo && { ...photo, tags: [...changed(photo.tags)] },
    );
  };
  const mutation = useMutation({
    scope: { id: `tags ${photoId}` },
    mutationFn: ({ kind, tag }: Change) =>
      kind === "add" ? calls.addTags(photoId, [tag], newKey()) : calls.removeTags(photoId, [tag]),
    onMutate: async ({ kind, tag }) => {
      await client.cancelQueries({ queryKey: key });
      setTags((before) => {
        const others = before.filter((each) => each !== tag);
        return kind === "add" ? [...others, tag] : others;
      });
    },
    onSuccess: (view) => {
      setTags(() => view.tags);
    },
    onError: (error, { kind, tag }) => {
      setTags((before) =>
        kind === "add" ? before.filter((each) => each !== tag) : [...before, tag],
      );
      toaster.show({ tone: "danger", title: errorText(t, error) });
    },
    onSettled: async () => {
      await Promise.all(
        [["photos"], ["tags"]].map((queryKey) => client.invalidateQueries({ queryKey })),
      );
    },
  });
  return (
    <section className={styles["section"]}>
      <h3 className={styles["heading"]}>{t("photo.tags")}</h3>
      {tags.length === 0 && <p className={styles["muted"]}>{t("photo.noTags")}</p>}
      <TagList
        tags={tags}
        onRemove={(tag) => {
          mutation.mutate({ kind: "remove", tag });
        }}
      />
      <TagInput
        taken={tags}
        onAdd={(tag) => {
          if (!tags.includes(tag)) mutation.mutate({ kind: "add", tag });
        }}
      />
    </section>
  );
}
