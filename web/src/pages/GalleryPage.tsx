import {
  lazy,
  Suspense,
  useCallback,
  useEffect,
  useMemo,
  useReducer,
  useRef,
  useState,
} from "react";
import { useTranslation } from "react-i18next";
import { useLocation, useRoute, useSearch } from "wouter";
import { Button } from "@/components/common/Button";
import { EmptyState } from "@/components/common/EmptyState";
import { FilterBar } from "@/components/gallery/FilterBar";
import {
  filtersOf,
  isFiltering,
  NO_FILTERS,
  searchOf,
  type Filters,
} from "@/components/gallery/filters";
import { GridSkeleton } from "@/components/gallery/GridSkeleton";
import { GALLERY_PATH, photoPath, UPLOAD_PATH } from "@/components/gallery/paths";
import { PhotoGrid, type GridHandle } from "@/components/gallery/PhotoGrid";
import { usePhotos } from "@/components/gallery/queries";
import { errorText } from "@/components/gallery/reasons";
import { NOTHING_SELECTED, select } from "@/components/gallery/selection";
import { SelectionBar } from "@/components/gallery/SelectionBar";
import { useGalleryServices } from "@/components/gallery/services";
import { TagDialog } from "@/components/gallery/TagDialog";
import { useBulkActions, useDeletePhotos } from "@/components/gallery/useBulkActions";
import { CircleAlert, ImageUp, LoaderCircle, Search } from "@/design/icons";
import { classes } from "@/lib/classes";
import styles from "./GalleryPage.module.css";

const PhotoPage = lazy(() => import("./PhotoPage"));

/** All photos of the person, filtered as the address says; `/photos/:id` opens one over them. */
export function GalleryPage() {
  const { t } = useTranslation();
  const [, navigate] = useLocation();
  const query = useSearch();
  const filters = useMemo(() => filtersOf(query), [query]);
  const search = searchOf(filters);
  const [, match] = useRoute<{ id: string }>(`${GALLERY_PATH}/:id`);
  const openId = match?.id ?? null;

  const { photos, ...list } = usePhotos(filters);
  const order = useMemo(() => photos.map((photo) => photo.photoId), [photos]);
  const [selection, dispatch] = useReducer(select, NOTHING_SELECTED);
  const [isChoosing, setIsChoosing] = useState(false);
  const [isTagging, setIsTagging] = useState(false);
  const isSelecting = isChoosing || selection.ids.size > 0;
  const selected = photos.filter((photo) => selection.ids.has(photo.photoId));
  const grid = useRef<GridHandle>(null);
  const bulk = useBulkActions();
  const deletePhotos = useDeletePhotos();
  const { deletions } = useGalleryServices();

  // What is not shown any more must not be deleted with the rest.
  useEffect(() => {
    dispatch({ type: "keep", order });
  }, [order]);

  const change = useCallback(
    (changed: Partial<Filters>) => {
      navigate(GALLERY_PATH + searchOf({ ...filters, ...changed }), { replace: true });
    },
    [navigate, filters],
  );
  const open = useCallback(
    (id: string) => {
      navigate(photoPath(id, search), { state: { isFromGrid: true } });
    },
    [navigate, search],
  );
  const hrefOf = useCallback((id: string) => photoPath(id, search), [search]);
  const endSelection = () => {
    dispatch({ type: "clear" });
    setIsChoosing(false);
  };
  const deleteSelected = () => {
    deletePhotos(selected);
    endSelection();
  };

  const { hasNextPage, isFetchingNextPage, isFetchNextPageError, fetchNextPage, refetch } = list;
  const onMore = useCallback(() => {
    if (!isFetchingNextPage && !isFetchNextPageError) void fetchNextPage();
  }, [isFetchingNextPage, isFetchNextPageError, fetchNextPage]);
  const onBroken = useCallback(() => void refetch(), [refetch]);

  useEffect(() => {
    if (openId !== null) return;
    const onKey = (event: KeyboardEvent) => {
      const isTyping =
        event.target instanceof HTMLElement && event.target.matches("input, textarea, dialog *");
      if (isTyping) return;
      const isControl = event.ctrlKey || event.metaKey;
      if (isControl && event.key.toLowerCase() === "z" && deletions.undoLatest() !== null)
        event.preventDefault();
      else if (isControl && event.key.toLowerCase() === "a" && order.length > 0) {
        event.preventDefault();
        dispatch({ type: "range", id: order.at(-1) ?? "", order });
        dispatch({ type: "toggleAll", ids: order.filter((id) => !selection.ids.has(id)) });
      } else if (event.key === "Escape" && isSelecting) endSelection();
      else if (event.key === "Delete" && selected.length > 0) deleteSelected();
    };
    document.addEventListener("keydown", onKey);
    return () => {
      document.removeEventListener("keydown", onKey);
    };
  });

  const isEmpty = photos.length === 0;
  return (
    <div className={styles["page"]}>
      <div className={styles["content"]}>
        <div className={styles["head"]}>
          <h1>{t("gallery.title")}</h1>
        </div>
        <FilterBar
          filters={filters}
          onChange={change}
          isSelecting={isSelecting}
          onSelecting={() => {
            if (isSelecting) endSelection();
            else setIsChoosing(true);
          }}
        />
        {isSelecting && (
          <div className={styles["sticky"]}>
            <SelectionBar
              count={selected.length}
              isBusy={bulk.isBusy}
              onEnd={endSelection}
              onAll={() => {
                dispatch({ type: "toggleAll", ids: order });
              }}
              onTag={() => {
                setIsTagging(true);
              }}
              onDownload={() => void bulk.download(selected)}
              onDelete={deleteSelected}
            />
          </div>
        )}
        <div
          className={classes(styles["photos"], list.isPlaceholderData && styles["old"])}
          aria-busy={list.isPending || list.isPlaceholderData}
        >
          {list.isPending && (
            <>
              <p role="status" className="visually-hidden">
                {t("gallery.loading")}
              </p>
              <GridSkeleton />
            </>
          )}
          {list.isError && isEmpty && (
            <EmptyState
              icon={CircleAlert}
              tone="danger"
              title={t("gallery.errorTitle")}
              text={errorText(t, list.error)}
              action={
                <Button
                  variant="primary"
                  isLoading={list.isFetching}
                  onClick={() => void refetch()}
                >
                  {t("common.retry")}
                </Button>
              }
            />
          )}
          {list.isSuccess && isEmpty && !hasNextPage && (
            <NoPhotos
              isFiltered={isFiltering(filters)}
              onUpload={() => {
                navigate(UPLOAD_PATH);
              }}
              onClear={() => {
                change({ ...NO_FILTERS, sort: filters.sort });
              }}
            />
          )}
          {!isEmpty && (
            <PhotoGrid
              ref={grid}
              photos={photos}
              sort={filters.sort}
              selection={selection}
              isSelecting={isSelecting}
              dispatch={dispatch}
              hrefOf={hrefOf}
              onOpen={open}
              hasMore={hasNextPage}
              onMore={onMore}
              onBroken={onBroken}
            />
          )}
        </div>
        {isFetchNextPageError && (
          <div className={styles["more"]} role="alert">
            {t("gallery.moreFailed")}
            <Button size="sm" onClick={() => void fetchNextPage()}>
              {t("common.retry")}
            </Button>
          </div>
        )}
        {isFetchingNextPage && (
          <p className={styles["more"]} role="status">
            <LoaderCircle aria-hidden size={16} className={styles["spinner"]} />
            {t("gallery.loadingMore")}
          </p>
        )}
      </div>
      {isTagging && (
        <TagDialog
          count={selected.length}
          onClose={() => {
            setIsTagging(false);
          }}
          onApply={(tags) => {
            setIsTagging(false);
            void bulk.tag(
              order.filter((id) => selection.ids.has(id)),
              tags,
            );
            endSelection();
          }}
        />
      )}
      {openId !== null && (
        <Suspense>
          <PhotoPage
            photoId={openId}
            photos={photos}
            hasMore={hasNextPage}
            onMore={onMore}
            onShow={(id) => {
              navigate(photoPath(id, search), { replace: true, state: history.state as unknown });
            }}
            onClose={(id) => {
              const state: unknown = history.state;
              const isFromGrid =
                typeof state === "object" && state !== null && "isFromGrid" in state;
              if (isFromGrid) history.back();
              else navigate(GALLERY_PATH + search, { replace: true });
              grid.current?.focus(id);
            }}
          />
        </Suspense>
      )}
    </div>
  );
}

interface NoPhotosProps {
  readonly isFiltered: boolean;
  readonly onUpload: () => void;
  readonly onClear: () => void;
}

function NoPhotos({ isFiltered, onUpload, onClear }: NoPhotosProps) {
  const { t } = useTranslation();
  return isFiltered ? (
    <EmptyState
      icon={Search}
      title={t("gallery.noMatchTitle")}
      text={t("gallery.noMatchText")}
      action={<Button onClick={onClear}>{t("gallery.clearFilters")}</Button>}
    />
  ) : (
    <EmptyState
      icon={ImageUp}
      title={t("gallery.emptyTitle")}
      text={t("gallery.emptyText")}
      action={
        <Button variant="primary" onClick={onUpload}>
          {t("gallery.emptyAction")}
        </Button>
      }
    />
  );
}
