"""What tests share: projects to run, servers, and the project's own definitions."""
