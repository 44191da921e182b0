//! Which Debian the host is and from where its apt(8) gets packages, so that a local mirror is used where
//! there is one.

use std::fs;
use std::io::ErrorKind;
use std::path::Path;

use anyhow::Result;

use crate::error::Doing;

/// The release to install and where to get it: on Debian both as the host has them, so that a local mirror
/// is used. Elsewhere the stable release, from mmdebstrap's own default.
pub(crate) fn suite_and_mirror() -> Result<(String, Option<String>)> {
    let release = fs::read_to_string("/etc/os-release").unwrap_or_default();
    let value = |name: &str| {
        release.lines().find_map(|line| line.strip_prefix(name)).map(|text| text.trim_matches('"'))
    };
    match (value("ID="), value("VERSION_CODENAME=")) {
        (Some("debian"), Some(suite)) => {
            let uri = apt_uri(suite)?;
            Ok((suite.to_owned(), uri.map(|uri| format!("deb {uri} {suite} main"))))
        }
        _ => Ok(("stable".to_owned(), None)),
    }
}

/// The URI from which apt gets the component main of this suite: sources.list(5).
fn apt_uri(suite: &str) -> Result<Option<String>> {
    let mut files = vec![Path::new("/etc/apt/sources.list").to_owned()];
    let directory = Path::new("/etc/apt/sources.list.d");
    match fs::read_dir(directory) {
        Err(error) if error.kind() == ErrorKind::NotFound => {}
        entries => {
            for entry in entries.doing("read the directory", directory)? {
                files.push(entry.doing("read the directory", directory)?.path());
            }
        }
    }
    files.sort();
    for file in files {
        let find = match file.extension().and_then(|extension| extension.to_str()) {
            Some("list") => uri_in_lines,
            Some("sources") => uri_in_stanzas,
            _ => continue,
        };
        match fs::read_to_string(&file) {
            Err(error) if error.kind() == ErrorKind::NotFound => {}
            text => {
                if let Some(uri) = find(&text.doing("read", &file)?, suite) {
                    return Ok(Some(uri));
                }
            }
        }
    }
    Ok(None)
}

/// The one-line style: `deb [options] URI SUITE COMPONENT...`.
fn uri_in_lines(text: &str, suite: &str) -> Option<String> {
    text.lines().find_map(|line| {
        let line = line.split('#').next()?.trim().strip_prefix("deb ")?.trim_start();
        let rest = if line.starts_with('[') { line.split_once(']')?.1 } else { line };
        let mut words = rest.split_whitespace();
        let (uri, found) = (words.next()?, words.next()?);
        (found == suite && words.any(|component| component == "main")).then(|| uri.to_owned())
    })
}

/// The deb822 style: stanzas of `Field: value`, with an empty line between them.
fn uri_in_stanzas(text: &str, suite: &str) -> Option<String> {
    let lines: Vec<&str> = text.lines().filter(|line| !line.starts_with('#')).collect();
    lines.split(|line| line.trim().is_empty()).find_map(|stanza| {
        let words = |field: &str| -> Vec<&str> {
            let value = stanza.iter().find_map(|line| line.strip_prefix(field)?.strip_prefix(':'));
            value.unwrap_or_default().split_whitespace().collect()
        };
        let is_wanted = words("Types").contains(&"deb")
            && words("Suites").contains(&suite)
            && words("Components").contains(&"main")
            && words("Enabled") != ["no"];
        is_wanted.then(|| words("URIs").first().map(|uri| (*uri).to_owned())).flatten()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_mirror_is_the_one_that_apt_uses_for_this_suite() {
        let lines = "# deb http://old/ trixie main
deb http://other/ sid main
deb [arch=amd64] http://mirror/debian trixie contrib main
";
        assert_eq!(uri_in_lines(lines, "trixie").as_deref(), Some("http://mirror/debian"));
        assert_eq!(uri_in_lines(lines, "bookworm"), None);

        let security = "Types: deb\nURIs: http://security/\nSuites: trixie-security\nComponents: main\n";
        let main = "Types: deb\n# a remark\nURIs: http://mirror/debian\nSuites: trixie trixie-updates\n";
        let stanzas = &format!("{security}\n{main}Components: main contrib\n");
        assert_eq!(uri_in_stanzas(stanzas, "trixie").as_deref(), Some("http://mirror/debian"));
        assert_eq!(
            uri_in_stanzas(&stanzas.replace("a remark", "").replace("# ", "Enabled: no"), "trixie"),
            None
        );
    }
}
