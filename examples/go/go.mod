module moorgate.example/client

go 1.19
