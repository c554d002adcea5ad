//! What a person reads who typed something wrong, and that nothing is done then.

use llm_memory_disk::{Disk as _, OsDisk};

use super::{Cli, assert_answer};

#[test]
fn a_misspelled_flag_is_answered_with_the_right_one() {
    let cli = Cli::new();
    assert_answer!(cli, cli.run("memory.query --scop=all"), @r"
    exit 64
    ----- stderr
    error: unexpected argument '--scop' found

      tip: a similar argument exists: '--scope'

    Usage: llm-memory memory query --scope <WORD>

    For more information, try '--help'.
    ");
}

#[test]
fn a_misspelled_command_is_answered_with_the_right_one() {
    let cli = Cli::new();
    assert_answer!(cli, cli.run("memory.qeury --q=x"), @r"
    exit 64
    ----- stderr
    error: unrecognized subcommand 'qeury'

      tip: a similar subcommand exists: 'query'

    Usage: llm-memory memory [OPTIONS] <COMMAND>

    For more information, try '--help'.
    ");
    assert_answer!(cli, cli.run("memroy query"), @r"
    exit 64
    ----- stderr
    error: unrecognized subcommand 'memroy'

      tip: a similar subcommand exists: 'memory'

    Usage: llm-memory [OPTIONS] <COMMAND>

    For more information, try '--help'.
    ");
}

#[test]
fn a_missing_argument_is_named() {
    let cli = Cli::new();
    assert_answer!(cli, cli.run("memory get"), @r"
    exit 64
    ----- stderr
    error: the following required arguments were not provided:
      --id <TEXT>

    Usage: llm-memory memory get --id <TEXT>

    For more information, try '--help'.
    ");
}

#[test]
fn a_wrong_word_is_answered_with_the_right_ones() {
    let cli = Cli::new();
    assert_answer!(cli, cli.run("memory.query --scope=everywhere"), @r"
    exit 64
    ----- stderr
    error: invalid value 'everywhere' for '--scope <WORD>'
      [possible values: global, local, committed, project, all]

    For more information, try '--help'.
    ");
}

#[test]
fn broken_json_is_named_with_its_flag() {
    let cli = Cli::new();
    assert_answer!(cli, cli.run("memory.query --filters={pinned}"), @r"
    exit 64
    ----- stderr
    error: --filters: not valid JSON: key must be a string at line 1 column 2
    ");
}

#[test]
fn a_missing_file_is_named() {
    let cli = Cli::new();
    let answer = cli.run("memory.upsert --type=note --scope=global --text=@nowhere.md");
    assert_answer!(cli, answer, @r"
    exit 64
    ----- stderr
    error: --text: cannot read nowhere.md: No such file or directory (os error 2)
    ");
    assert!(!cli.data().exists(), "a refused command must not create a store");
}

#[test]
fn reading_does_not_create_a_store() {
    let cli = Cli::new();
    assert_answer!(cli, cli.run("memory.query --q=x"), @r"
    exit 2
    ----- stderr
    error: there is no store in [folder]/data: write something first, or name another folder with --data-dir
    ");
    assert!(!cli.data().exists());
}

#[test]
fn an_item_that_does_not_exist_is_a_failure_not_a_usage_error() {
    let cli = Cli::new();
    cli.store("a", "A", "text");
    assert_answer!(cli, cli.run("memory.get --id=b"), @r"
    exit 2
    ----- stderr
    error: item b not found in scope committed, local, global
    ");
}

#[test]
fn a_folder_held_by_a_process_that_cannot_be_asked_is_said_so() {
    let cli = Cli::new();
    cli.store("a", "A", "text");
    let held = OsDisk.lock(&cli.data().join("lock")).unwrap();
    assert_answer!(cli, cli.run("memory.get --id=a"), @r"
    exit 2
    ----- stderr
    error: [folder]/data is in use by a process that serves no requests: stop it, or name a running server with --server
    ");
    drop(held);
    assert_eq!(cli.run("memory.get --id=a").code, 0);
}

#[test]
fn a_server_that_is_not_there_is_said_so() {
    let cli = Cli::new();
    let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let answer = cli.run(&format!("memory.query --server=http://127.0.0.1:{port} --q=x"));
    assert_answer!(cli, answer, @r"
    exit 2
    ----- stderr
    error: no server answers at [address]: Connection refused (os error 111)
    ");
    let answer = cli.run("memory.query --server=ftp://example.org --q=x");
    assert_answer!(cli, answer, @r#"
    exit 64
    ----- stderr
    error: "ftp://example.org" is not an address this client can use: write it like https://host:3000
    "#);
}

#[test]
fn a_bad_setting_is_named() {
    let cli = Cli::new();
    let mut command = cli.command(["memory.query", "--q=x"]);
    let output = command.env("LLM_MEMORY_CACHE_SIZE", "lots").output().unwrap();
    assert_answer!(cli, super::answer(&output), @r"
    exit 64
    ----- stderr
    error: LLM_MEMORY_CACHE_SIZE: no such variable; did you mean LLM_MEMORY_CACHE_SIZE_MB?
    ");
}
