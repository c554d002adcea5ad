//! Remotes of one repository, however they are written, become one text.

/// A remote in the form that identifies its repository: an HTTPS URL in lower case without
/// credentials, port or `.git`. A local path stays a path.
#[must_use]
pub fn normalise_remote(remote: &str) -> String {
    let remote = remote.trim().to_lowercase();
    let Some((_, host, path)) = split(&remote) else {
        return trim_path(&remote).to_owned();
    };
    let host = host.rsplit_once('@').map_or(host, |(_, host)| host);
    // The port belongs to the way of access (2222 for SSH, 8443 for HTTPS), not to the
    // repository. Addresses in brackets contain colons of their own.
    let host = match host.rsplit_once(':') {
        Some((name, port)) if port.chars().all(|c| c.is_ascii_digit()) => name,
        Some(_) | None => host,
    };
    format!("https://{host}/{}", trim_path(path.trim_start_matches('/')))
}

/// The remote as written, without user name and password in a URL.
#[must_use]
pub fn without_credentials(remote: &str) -> String {
    let remote = remote.trim();
    match split(remote) {
        Some((Some(scheme), host, path)) => {
            let host = host.rsplit_once('@').map_or(host, |(_, host)| host);
            format!("{scheme}://{host}{path}")
        }
        // In `git@host:path` the user is the name of the service and no secret.
        Some((None, _, _)) | None => remote.to_owned(),
    }
}

/// Scheme, host (with user and port) and path of a URL or of SSH's short form; `None` for a
/// local path.
fn split(remote: &str) -> Option<(Option<&str>, &str, &str)> {
    if let Some((scheme, rest)) = remote.split_once("://") {
        if scheme.eq_ignore_ascii_case("file") {
            return None;
        }
        let at = rest.find('/').unwrap_or(rest.len());
        let (host, path) = rest.split_at(at);
        return (!host.is_empty()).then_some((Some(scheme), host, path));
    }
    let (host, path) = remote.split_once(':')?;
    // `C:\repo` and `./a:b` are paths.
    (host.len() > 1 && !host.contains(['/', '\\'])).then_some((None, host, path))
}

fn trim_path(mut path: &str) -> &str {
    loop {
        let shorter = path.trim_end_matches('/');
        let shorter = shorter.strip_suffix(".git").unwrap_or(shorter);
        if shorter.len() == path.len() {
            return path;
        }
        path = shorter;
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn every_way_to_write_a_remote_is_one_text() {
        for remote in [
            "git@github.com:Owner/Repo.git",
            "ssh://git@github.com/owner/repo.git",
            "ssh://git@github.com:22/owner/repo",
            "https://github.com/Owner/Repo",
            "https://github.com:443/owner/repo.git/",
            "http://user:pass@github.com/owner/repo",
            "git://GitHub.com/owner/repo.git",
            " git@github.com:/owner/repo ",
        ] {
            assert_eq!(normalise_remote(remote), "https://github.com/owner/repo", "{remote}");
        }
    }

    #[test]
    fn local_paths_stay_paths() {
        assert_eq!(normalise_remote("/srv/git/Repo.git"), "/srv/git/repo");
        assert_eq!(normalise_remote("file:///srv/r.git/"), "file:///srv/r");
        assert_eq!(normalise_remote("C:\\git\\r"), "c:\\git\\r");
    }

    #[test]
    fn credentials_are_never_shown() {
        assert_eq!(
            without_credentials("https://u:t0k@h.example:8443/a"),
            "https://h.example:8443/a"
        );
        assert_eq!(without_credentials("git@h.example:a/b.git"), "git@h.example:a/b.git");
    }

    proptest! {
        #[test]
        fn every_spelling_of_a_generated_repository_agrees(
            host in "[a-z]{2,8}(\\.[a-z]{2,5}){0,2}",
            path in "[a-zA-Z0-9_-]{1,6}(/[a-zA-Z0-9._-]{0,4}[a-z]){0,3}",
            user in "([a-z]{1,5}(:[a-z0-9]{1,5})?@)?",
            port in "(:[0-9]{1,5})?",
            end in "(/|\\.git|\\.git/)?",
        ) {
            let expected = normalise_remote(&format!("https://{host}/{path}"));
            for written in [
                format!("https://{user}{host}{port}/{path}{end}"),
                format!("ssh://git@{host}{port}/{path}{end}"),
                format!("git@{host}:{path}{end}"),
                expected.clone(),
            ] {
                prop_assert_eq!(normalise_remote(&written), expected.clone(), "{}", written);
            }
        }

        #[test]
        fn any_text_is_accepted(remote in ".{0,40}") {
            let _ = (normalise_remote(&remote), without_credentials(&remote));
        }
    }
}
