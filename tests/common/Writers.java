// Clients of a real HDFS, for tests: many that collide on a few names, or one that holds a file open.
// Run by the Java source launcher on Hadoop's class path; knows nothing of syncd.
//
//   Writers run URI ROOT CLIENTS OPERATIONS SEED [STOP_FILE [PAUSE_MS]]
//       Each client does OPERATIONS random operations below ROOT (0: no bound) or until STOP_FILE is there, with a pause after each.
//       The last line of its output is a summary.
//   Writers jobs URI ROOT SEED STOP_FILE PAUSE_MS
//       Until STOP_FILE is there tables below ROOT are written as Hadoop's committer does it (below `_temporary`, renamed twice,
//       `_SUCCESS` last), put in the place of the old ones, and dropped now and then. The last line is a summary.
//   Writers hold URI PATH... | Writers openappend URI PATH...
//       Creates each PATH, or opens it for append, says `ok`, and then obeys one command a line for all of them, answering
//       each with `ok` or `error ...`: write BYTES, hflush, hsync, length, endblock, close, append, appendnew.
//       At the end of its input it dies without closing, as a crashed writer does.

import java.io.BufferedReader;
import java.io.IOException;
import java.io.InputStreamReader;
import java.net.URI;
import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.nio.file.Paths;
import java.util.ArrayList;
import java.util.EnumSet;
import java.util.List;
import java.util.Map;
import java.util.Random;
import java.util.TreeMap;
import org.apache.hadoop.conf.Configuration;
import org.apache.hadoop.fs.CreateFlag;
import org.apache.hadoop.fs.FSDataOutputStream;
import org.apache.hadoop.fs.FileSystem;
import org.apache.hadoop.fs.Options.Rename;
import org.apache.hadoop.fs.Path;
import org.apache.hadoop.fs.permission.FsPermission;
import org.apache.hadoop.hdfs.DistributedFileSystem;
import org.apache.hadoop.hdfs.client.HdfsDataOutputStream;
import org.apache.hadoop.hdfs.client.HdfsDataOutputStream.SyncFlag;

public class Writers {
    public static void main(String[] args) throws Exception {
        switch (args[0]) {
            case "run" -> run(args);
            case "jobs" -> jobs(args);
            case "hold" -> hold(args, false);
            case "openappend" -> hold(args, true);
            default -> throw new IllegalArgumentException(args[0]);
        }
        Runtime.getRuntime().halt(0);
    }

    static void run(String[] args) throws Exception {
        int clients = Integer.parseInt(args[3]);
        long operations = Long.parseLong(args[4]);
        long seed = Long.parseLong(args[5]);
        java.nio.file.Path stop = args.length > 6 ? Paths.get(args[6]) : null;
        long pause = args.length > 7 ? Long.parseLong(args[7]) : 0;
        Client[] all = new Client[clients];
        for (int i = 0; i < clients; i++) {
            all[i] = new Client(connect(args[1]), args[2], seed + i, operations, stop, pause);
            all[i].start();
        }
        Map<String, Integer> done = new TreeMap<>();
        int refused = 0;
        for (Client client : all) {
            client.join();
            client.done.forEach((name, count) -> done.merge(name, count, Integer::sum));
            refused += client.refused;
        }
        System.out.println("seed=" + seed + " clients=" + clients + " refused=" + refused + " done=" + done);
        System.out.flush();
    }

    static void jobs(String[] args) throws Exception {
        DistributedFileSystem fs = connect(args[1]);
        Random random = new Random(Long.parseLong(args[3]));
        java.nio.file.Path stop = Paths.get(args[4]);
        int jobs = 0;
        for (; !Files.exists(stop); jobs++) {
            job(fs, args[2] + "/t" + random.nextInt(5), random, jobs);
            Thread.sleep(Long.parseLong(args[5]));
        }
        System.out.println("seed=" + args[3] + " jobs=" + jobs);
        System.out.flush();
    }

    /** What FileOutputCommitter does, and then two renames that replace the table. */
    static void job(DistributedFileSystem fs, String table, Random random, int number) throws IOException {
        String next = table + "_new";
        String temporary = next + "/_temporary/0";
        int tasks = 1 + random.nextInt(8);
        for (int task = 0; task < tasks; task++) {
            String attempt = temporary + "/_temporary/attempt_" + number + "_" + task;
            try (FSDataOutputStream out = fs.create(path(attempt + "/part-" + task))) {
                out.write(pattern(random.nextInt(251), random.nextInt(20_000)));
            }
            fs.rename(path(attempt), path(temporary + "/task_" + task));
        }
        for (int task = 0; task < tasks; task++) {
            fs.rename(path(temporary + "/task_" + task + "/part-" + task), path(next + "/part-" + task));
        }
        fs.delete(path(next + "/_temporary"), true);
        fs.create(path(next + "/_SUCCESS"), true).close();
        fs.rename(path(table), path(table + "_old"));
        fs.rename(path(next), path(table));
        fs.delete(path(table + "_old"), true);
        if (random.nextInt(10) == 0) {
            fs.delete(path(table), true);
        }
    }

    static DistributedFileSystem connect(String uri) throws IOException {
        return (DistributedFileSystem) FileSystem.newInstance(URI.create(uri), new Configuration());
    }

    /** Takes the text as it is: `new Path(text)` would read `a:b` as a scheme and cut what looks like a URI. */
    static Path path(String text) {
        return new Path(null, null, text);
    }

    /** The byte at each offset is a function of the offset, so that a reader can tell what it should have read. */
    static byte[] pattern(long offset, int length) {
        byte[] bytes = new byte[length];
        for (int i = 0; i < length; i++) {
            bytes[i] = (byte) ((offset + i) * 31 % 251);
        }
        return bytes;
    }

    static void hold(String[] args, boolean append) throws IOException {
        DistributedFileSystem fs = connect(args[1]);
        List<Holder> all = new ArrayList<>();
        for (int i = 2; i < args.length; i++) {
            all.add(new Holder(fs, path(args[i])));
        }
        say(all, holder -> holder.open(append));
        BufferedReader in = new BufferedReader(new InputStreamReader(System.in, StandardCharsets.UTF_8));
        for (String line = in.readLine(); line != null; line = in.readLine()) {
            String[] words = line.split(" ");
            say(all, holder -> holder.obey(words));
        }
    }

    interface Step {
        void go(Holder holder) throws IOException;
    }

    static void say(List<Holder> all, Step step) {
        try {
            for (Holder holder : all) {
                step.go(holder);
            }
            System.out.println("ok");
        } catch (IOException | RuntimeException error) {
            System.out.println("error " + error.toString().replace('\n', ' '));
        }
        System.out.flush();
    }

    /** One file under one writer. */
    static class Holder {
        final DistributedFileSystem fs;
        final Path path;
        FSDataOutputStream out;

        Holder(DistributedFileSystem fs, Path path) {
            this.fs = fs;
            this.path = path;
        }

        void open(boolean append) throws IOException {
            out = append ? fs.append(path) : fs.create(path, true);
        }

        void obey(String[] words) throws IOException {
            switch (words[0]) {
                case "write" -> out.write(pattern(out.getPos(), Integer.parseInt(words[1])));
                case "hflush" -> out.hflush();
                case "hsync" -> out.hsync();
                case "length" -> ((HdfsDataOutputStream) out).hsync(EnumSet.of(SyncFlag.UPDATE_LENGTH));
                case "endblock" -> ((HdfsDataOutputStream) out).hsync(EnumSet.of(SyncFlag.END_BLOCK));
                case "close" -> out.close();
                case "append" -> out = fs.append(path);
                case "appendnew" -> out = fs.append(path, EnumSet.of(CreateFlag.APPEND, CreateFlag.NEW_BLOCK), 4096, null);
                default -> throw new IOException("unknown command " + words[0]);
            }
        }
    }

    /** One client of many; what it does is a function of its seed, what comes of it is not. */
    static class Client extends Thread {
        static final String[] NAMES = {
            "a", "b", "c", "a b", "k=v", "tab\tbed", "new\nline", "quote\"d", "it's", "back\\slash", "100%20", "a+b",
            "caf\u00e9", "\u65e5\u672c\u8a9e", "\ud83d\ude00", "cmd=delete", "#?&;", " lead", "\\u0041", "x".repeat(120),
        };
        static final String[] DIRS = {"d", "d/a", "d/b", "e", "e/a b", "t=1"};

        final DistributedFileSystem fs;
        final String root;
        final Random random;
        final long operations;
        final java.nio.file.Path stop;
        final long pause;
        final Map<String, Integer> done = new TreeMap<>();
        int refused;

        Client(
                DistributedFileSystem fs, String root, long seed, long operations, java.nio.file.Path stop, long pause) {
            this.fs = fs;
            this.root = root;
            this.random = new Random(seed);
            this.operations = operations;
            this.stop = stop;
            this.pause = pause;
        }

        @Override
        public void run() {
            for (long i = 0; operations == 0 || i < operations; i++) {
                if (stop != null && Files.exists(stop)) {
                    return;
                }
                once();
                try {
                    Thread.sleep(pause);
                } catch (InterruptedException end) {
                    return;
                }
            }
        }

        void once() {
            try {
                String name = act(random.nextInt(100));
                done.merge(name, 1, Integer::sum);
            } catch (IOException | RuntimeException refusal) {
                refused++;
            }
        }

        String act(int dice) throws IOException {
            if (dice < 40) return create();
            if (dice < 50) return append();
            if (dice < 54) return truncate();
            if (dice < 60) return concat();
            if (dice < 67) return said("delete", fs.delete(any(), true));
            if (dice < 70) return said("mkdirs", fs.mkdirs(any()));
            if (dice < 80) return said("rename", fs.rename(any(), any()));
            if (dice < 88) return overwrite();
            if (dice < 91) return permit();
            if (dice < 95) return touch();
            if (dice < 98) return own();
            return said("rename-up", fs.rename(dir(), dir()));
        }

        String create() throws IOException {
            try (FSDataOutputStream out = fs.create(any(), true)) {
                out.write(pattern(random.nextInt(251), size()));
            }
            return "create";
        }

        String append() throws IOException {
            try (FSDataOutputStream out = fs.append(any())) {
                out.write(pattern(random.nextInt(251), 1 + size()));
            }
            return "append";
        }

        String truncate() throws IOException {
            Path path = any();
            long length = fs.getFileStatus(path).getLen();
            return said("truncate", fs.truncate(path, length / 2) || true);
        }

        String concat() throws IOException {
            Path dir = dir();
            Path part = child(dir);
            try (FSDataOutputStream out = fs.create(part, true)) {
                out.write(pattern(0, 1000));
            }
            fs.concat(child(dir), new Path[] {part});
            return "concat";
        }

        String overwrite() throws IOException {
            fs.rename(any(), any(), Rename.OVERWRITE);
            return "rename-overwrite";
        }

        String permit() throws IOException {
            fs.setPermission(any(), new FsPermission((short) (0400 | random.nextInt(01000))));
            return "setPermission";
        }

        String touch() throws IOException {
            fs.setTimes(any(), 1_500_000_000_000L + random.nextInt(1_000_000), -1);
            return "setTimes";
        }

        String own() throws IOException {
            fs.setOwner(any(), random.nextBoolean() ? "etl" : "web", random.nextBoolean() ? "staff" : null);
            return "setOwner";
        }

        String said(String name, boolean did) throws IOException {
            if (!did) {
                throw new IOException("refused");
            }
            return name;
        }

        Path any() {
            return random.nextInt(20) == 0 ? dir() : child(dir());
        }

        Path dir() {
            return path(root + "/" + DIRS[random.nextInt(DIRS.length)]);
        }

        /** A third of them are the first few, so that most operations find something to work on. */
        Path child(Path dir) {
            int choice = random.nextInt(3) == 0 ? 4 : NAMES.length;
            return path(dir.toUri().getPath() + "/" + NAMES[random.nextInt(choice)]);
        }

        /** Sizes often collide, so that twins arise. */
        int size() {
            return random.nextInt(4) == 0 ? 0 : random.nextBoolean() ? 1000 : random.nextInt(5000);
        }
    }
}
