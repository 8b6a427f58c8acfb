#!/usr/bin/env python3
"""Checks section 6.3 of the protocol notes: an independent matcher against `rsync -r --list-only --exclude=PAT`.

usage: filter_check.py [TREE]     (default $RSYNC_WORK/tree)
Compares the names that survive one exclude rule with those rsync lists.
"""
import os, re, subprocess, sys

T = sys.argv[1] if len(sys.argv) > 1 else os.environ.get("RSYNC_WORK", "rsync-work") + "/tree"
PATS = ["foo", "/foo", "foo/", "app-misc/foo", "/app-misc/foo", "misc/foo", "*.ebuild", "/*.txt", "*/foo", "**/foo", "foo/**", "app-misc/**",
        "app-misc/***", "/app-misc/***", "a*/f*", "**.ebuild", "/**.ebuild", "a**l", "sort/**r", "sort/a?b", "sort/a[-.]b", "sort/a[!-]b", "sort/[[:alpha:]]0",
        "/sort/", "sort", "inner", "b/inner", "sort/b/inner", "/b/inner", "*/inner", "*/*/inner", "/*/*/inner", "**inner", "/**/inner", "**/sort/**", "t*p", "*", "*/",
        "/*", "/*/", "**", "/**", "metadata/*/", "/metadata/*/*", "md5-cache/*/foo*", "foo-1.0", "name with space.txt", "*with*", "/sort/a", "/sort/a/", "a/***",
        "[!a-m]*", "big/long*a", "*prefix-a", "\\*.txt", "he\\ader.txt", "he\\ad*.txt", "sort/\\a*", "foo+bar", "foo+bar/", "**/foo+*", "app-misc/*/foo*.ebuild", "/./sort", "sort//a", "s[o]rt/a", "***", "foo***", "foo/***", "sort/b***", "**a/inner", "x**y", "*a*a*"]


def cls(p, i):
    j, neg, out = i + 1, False, ""
    if j < len(p) and p[j] in "!^": neg, j = True, j + 1
    first = True
    while j < len(p) and (p[j] != "]" or first):
        if p.startswith("[:", j) and ":]" in p[j:]:
            e = p.index(":]", j)
            out += {"alpha": "a-zA-Z", "digit": "0-9", "alnum": "a-zA-Z0-9", "upper": "A-Z", "lower": "a-z", "space": r"\s", "punct": r"!-/:-@\[-`{-~"}[p[j + 2:e]]
            j = e + 2
        else:
            if p[j] == "\\": j += 1
            out += p[j] if p[j] == "-" and not first and j + 1 < len(p) and p[j + 1] != "]" else re.escape(p[j])
            j += 1
        first = False
    return ("(?!/)[" + ("^" if neg else "") + out + "]", j + 1)


def regex(p):
    out, i = "", 0
    while i < len(p):
        c = p[i]
        if c == "*":
            k = i
            while k < len(p) and p[k] == "*": k += 1
            out += "(?:.|\n)*" if k - i > 1 else "[^/]*"
            i = k
        elif c == "?": out += "[^/]"; i += 1
        elif c == "[":
            r, i = cls(p, i); out += r
        elif c == "\\" and i + 1 < len(p): out += re.escape(p[i + 1]); i += 2
        else: out += re.escape(c); i += 1
    return re.compile(out + r"\Z")


def matches(pat, name, isdir):
    dironly = False
    if len(pat) > 1 and pat.endswith("/"): pat, dironly = pat[:-1], True
    slashes, wild, dwild = pat.count("/"), any(c in pat for c in "*?["), "**" in pat
    text = name
    if not slashes and not dwild: text = name.rsplit("/", 1)[-1]
    elif dwild and pat.startswith("**"): text = "/" + name
    if dironly and not isdir: return False
    if isdir and pat.endswith("***"): text += "/"
    anchored = pat.startswith("/")
    if anchored: pat = pat[1:]
    if not wild:
        if anchored: return text == pat
        return text == pat or text.endswith("/" + pat)
    rx = regex(pat)
    if not anchored and slashes and not dwild:
        parts = text.split("/")
        n = slashes + 1
        return len(parts) >= n and bool(rx.match("/".join(parts[-n:])))
    if not anchored and dwild and not pat.startswith("**"):
        return any(rx.match(text, k) for k in [0] + [i + 1 for i, c in enumerate(text) if c == "/"])
    return bool(rx.match(text))


def walk(pat, d=""):
    out = []
    for n in sorted(os.listdir(os.path.join(T, d))):
        rel = f"{d}/{n}" if d else n
        isdir = os.path.isdir(os.path.join(T, rel)) and not os.path.islink(os.path.join(T, rel))
        if matches(pat, rel, isdir): continue
        out.append(rel)
        if isdir: out += walk(pat, rel)
    return out


bad = 0
for p in PATS:
    r = subprocess.run(["rsync", "-r8", "--list-only", "--exclude=" + p, T + "/"], capture_output=True, text=True)
    got = sorted(x for l in r.stdout.splitlines() if (x := re.sub(r"^\S+\s+\S+ \S+ \S+ ", "", l)) != ".")
    want = sorted(walk(p))
    if got != want:
        bad += 1
        print("DIFF", repr(p), "rsync only:", sorted(set(got) - set(want))[:5], "model only:", sorted(set(want) - set(got))[:5], r.stderr[:80])
print(len(PATS), "patterns,", bad, "differ")
sys.exit(bool(bad))
