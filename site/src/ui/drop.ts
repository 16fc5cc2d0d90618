/** Files that are dropped on the page or pasted into it. */

import { useEffect, useRef, useState } from "react";
import { say } from "./Toast.tsx";

/**
 * Takes files that are dropped anywhere on the page. Without it, a browser would leave the page for the file. Returns
 * whether files are held over the page now.
 */
export function useFileDrop(onFiles: (files: readonly File[]) => void): boolean {
  const [isOver, setOver] = useState(false);
  const latest = useRef(onFiles);
  latest.current = onFiles;
  useEffect(() => {
    const over = (event: DragEvent) => {
      if (!hasFiles(event)) return;
      event.preventDefault();
      setOver(true);
    };
    const leave = (event: DragEvent) => {
      if (event.relatedTarget === null) setOver(false);
    };
    const drop = (event: DragEvent) => {
      setOver(false);
      if (!hasFiles(event)) return;
      event.preventDefault();
      latest.current(filesOf(event.dataTransfer as DataTransfer));
    };
    document.addEventListener("dragover", over);
    document.addEventListener("dragleave", leave);
    document.addEventListener("drop", drop);
    return () => {
      document.removeEventListener("dragover", over);
      document.removeEventListener("dragleave", leave);
      document.removeEventListener("drop", drop);
    };
  }, []);
  return isOver;
}

const hasFiles = ({ dataTransfer }: DragEvent) => dataTransfer?.types.includes("Files") ?? false;

/** The files of a drop. A folder looks like a file that cannot be read; it is left out, and said. */
function filesOf(dropped: DataTransfer): File[] {
  const items = [...dropped.items].filter(({ kind }) => kind === "file");
  const files = items.flatMap((item) => (item.webkitGetAsEntry()?.isDirectory ? [] : (item.getAsFile() ?? [])));
  if (files.length < items.length) say("Folders cannot be attached; choose the files in them.");
  return files;
}

/** The files that are pasted, where no text comes along: an office program puts a picture beside each text. */
export function pastedFiles(data: DataTransfer): readonly File[] {
  return data.types.includes("text/plain") ? [] : [...data.files];
}

/** Where nothing takes them, files that are dropped do nothing. */
export function ignoreDrops(): void {
  const ignore = (event: DragEvent) => {
    if (event.defaultPrevented || !hasFiles(event)) return;
    event.preventDefault();
    (event.dataTransfer as DataTransfer).dropEffect = "none";
  };
  window.addEventListener("dragover", ignore);
  window.addEventListener("drop", ignore);
}
