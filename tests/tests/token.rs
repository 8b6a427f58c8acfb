//! gRPC that other hosts can reach: with a token, for those who have it.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;

use anyhow::Result;
use rookery_tests::farm::Farm;

#[tokio::test(flavor = "multi_thread")]
async fn the_command_line_needs_the_token_that_the_services_share() -> Result<()> {
    let mut farm = Farm::start(&[]).await?;
    let open = farm.dir().join("open.toml");
    fs::copy(farm.config_file(), &open)?;
    farm.stop_mirror().await?;
    let token = farm.dir().join("token");
    fs::write(&token, "a token that is long enough\n".replace(' ', "-"))?;
    fs::set_permissions(&token, fs::Permissions::from_mode(0o600))?;
    farm.configure(&format!("\n[grpc]\ntoken_file = \"{}\"\n", token.display()))?;
    // Ready only once maintenance has sync-server's catalogue and proxy-cache has maintenance's: all of
    // them speak with the token.
    farm.start_mirror().await?;

    let status = farm.rookery().args(["status", "--json"]).output()?;
    assert!(status.status.success(), "{}", String::from_utf8_lossy(&status.stderr));
    let mut stranger = std::process::Command::new(rookery_tests::program::rookery());
    let refused = stranger.arg("--config").arg(&open).args(["status", "--json"]).output()?;
    let message = String::from_utf8_lossy(&refused.stderr);
    assert!(!refused.status.success() && message.contains("token"), "{message}");

    fs::set_permissions(&token, fs::Permissions::from_mode(0o644))?;
    let readable = farm.rookery().args(["status", "--json"]).output()?;
    let message = String::from_utf8_lossy(&readable.stderr);
    assert_eq!(readable.status.code(), Some(64), "{message}");
    assert!(message.contains("grpc.token_file"), "{message}");
    Ok(())
}
