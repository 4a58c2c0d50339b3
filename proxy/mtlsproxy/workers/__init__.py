"""Several processes as one proxy: a supervisor, and workers that it starts, watches and starts again.

    supervisor  the parent: binds, starts workers, passes on signals and reloads, serves the admin
    crew        the workers as processes: started, asked, started again with back-off when they end
    work        a worker: one `runtime.server.Proxy` that takes its sockets and its orders from the parent
    channel     messages between the two, with file descriptors
    orders      the words of it
    relay       the one helper process that fetches, shared by all
    numbers     metrics of a worker in shared memory
    sums        the same of all workers, living and departed, as one
    overview    status, refusals and clients of all, as one

A worker owns one SO_REUSEPORT socket a listener, which the supervisor keeps open besides: the connections that wait
in the queue of a worker that crashed are served by the one that takes its place.
"""
