"""Speed beside what a user would write or pick instead; `make bench` runs it, and no test times anything."""
