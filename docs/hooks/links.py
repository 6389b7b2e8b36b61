"""Links inside the site lead somewhere, and no page needs another host."""

import html.parser
import pathlib
import urllib.parse

from mkdocs.exceptions import PluginError


def on_post_build(config):
    # After the notebooks, which are linked to, have been written.
    problems = check(pathlib.Path(config.site_dir))
    if problems:
        raise PluginError("\n".join(problems))


def check(site):
    """What is wrong with the links of a site: list of str."""
    pages = {path: _parsed(path) for path in site.rglob("*.html")}
    problems = []
    for path, page in pages.items():
        if path.name == "404.html":  # Its links begin at the root of a host.
            continue
        name = path.relative_to(site)
        problems += [f"{name} loads {url}" for url in page.remote]
        for link in page.links:
            url = urllib.parse.urlsplit(link)
            if url.scheme or url.netloc:
                continue
            target = path
            if url.path:
                target = path.parent / urllib.parse.unquote(url.path)
            target = target.resolve()
            if not target.is_file():
                problems.append(f"{name} links to {link}, which is no file")
            elif url.fragment and target in pages:
                anchor = urllib.parse.unquote(url.fragment)
                if anchor not in pages[target].anchors:
                    problems.append(f"{name} links to {link}: no such anchor")
    return problems


class _Page(html.parser.HTMLParser):
    def __init__(self):
        super().__init__()
        self.links, self.remote = [], []
        self.anchors = {"__skip"}

    def handle_starttag(self, tag, attrs):
        attrs = dict(attrs)
        self.anchors |= {attrs.get("id"), attrs.get("name")}
        loaded = attrs.get("src")
        if tag == "link":
            loaded = attrs.get("href")
        elif attrs.get("href"):
            self.links.append(attrs["href"])
        if loaded and urllib.parse.urlsplit(loaded).netloc:
            self.remote.append(loaded)
        elif loaded and not loaded.startswith("data:"):
            self.links.append(loaded)


def _parsed(path):
    page = _Page()
    page.feed(path.read_text())
    return page
