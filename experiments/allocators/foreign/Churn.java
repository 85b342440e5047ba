// SPDX-License-Identifier: MIT
// Fills a heap, lets go of all but one object in so many, and waits while it is looked at.
//
//     java Churn.java MEBIBYTES KEEP_ONE_IN

import java.util.ArrayList;
import java.util.Random;

class Churn {
    private static void say(String word) throws Exception {
        System.out.println(word);
        System.out.flush();
        System.in.read();
    }

    public static void main(String[] arguments) throws Exception {
        long left = Long.parseLong(arguments[0]) << 20;
        int keep = Integer.parseInt(arguments[1]);
        Random chance = new Random(1);
        say("start");
        ArrayList<byte[]> objects = new ArrayList<>();
        while (left > 0) {
            byte[] one = new byte[16 + chance.nextInt(993)];
            left -= one.length + 16;
            objects.add(one);
        }
        say("full");
        ArrayList<byte[]> kept = new ArrayList<>();
        for (int index = 0; index < objects.size(); index += keep)
            kept.add(objects.get(index));
        objects = null;
        for (int turn = 0; turn < 4; turn++)
            System.gc();
        say("released");
        System.out.println(kept.size());
    }
}
