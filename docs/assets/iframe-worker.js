// Browsers run no workers on pages that are read from a disk, and the search of
// the theme is a worker. Here a hidden frame does its work.
if (location.protocol === "file:") {
  window.Worker = class extends EventTarget {
    constructor(url) {
      super();
      const frame = document.createElement("iframe");
      frame.hidden = true;
      this.loaded = new Promise((resolve) => {
        frame.onload = () => resolve(frame.contentWindow);
      });
      frame.srcdoc = `<script src="${new URL(url, location)}"></script>`;
      document.documentElement.appendChild(frame);
      this.loaded.then((inside) => {
        inside.postMessage = (data) =>
          this.dispatchEvent(new MessageEvent("message", { data }));
      });
    }

    postMessage(data) {
      this.loaded.then((inside) =>
        inside.dispatchEvent(new MessageEvent("message", { data })),
      );
    }
  };
}
