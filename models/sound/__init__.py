"""What training hears: sounds cut from recordings or made, what happens to them on the way, and examples of both."""
